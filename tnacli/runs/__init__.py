"""Run folders and what is stored of a run: written by training, read by reports. No torch."""
