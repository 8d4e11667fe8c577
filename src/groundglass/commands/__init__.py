"""The commands, one function each, composed of the layers below."""
