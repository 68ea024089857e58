"""Person re-identification by a surveillance camera: embeddings of pedestrians, searched for in a gallery."""
