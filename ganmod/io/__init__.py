"""Files: images, clips, model files, pickles that run nothing."""
