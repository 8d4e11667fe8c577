"""What each command does, one function a command, put together from the parts below."""
