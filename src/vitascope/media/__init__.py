"""Pictures and clips in, clips out, where files live. Frames are numpy arrays here; jobs are not known."""
