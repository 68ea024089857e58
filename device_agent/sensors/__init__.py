"""What a device senses: its share of the task's data, over and over, or what is really there."""
