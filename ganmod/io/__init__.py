"""Files: images, clips, model files, and pickles read without running code."""
