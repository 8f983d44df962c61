"""`ganmod fid`, and what the commands that measure sets of images share."""
