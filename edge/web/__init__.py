"""What every page of ours stands on: how it listens, what it lets in, who is signed in. Control room and van alike."""
