"""Pictures in, clips out, and where finished files live. Frames are numpy arrays here; jobs are not known."""
