"""What a network learns of instances: classes alone, distances, or borders."""
