"""What `--json` prints: a model for each document, from which its JSON Schema is made. Loaded by the commands that print one."""
