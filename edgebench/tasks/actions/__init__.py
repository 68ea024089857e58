"""What a person does: an action, from a skeleton that moves or from a few frames of a video."""
