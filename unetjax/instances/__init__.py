"""From probabilities to numbered cells."""
