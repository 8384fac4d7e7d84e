"""One command a file, for people with images."""
