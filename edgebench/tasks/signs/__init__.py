"""Traffic signs: which of 43 signs a camera sees, from a picture cut out around it."""
