"""What a recipe may say: a file a section, and what the sections share."""
