"""One file a family: config.json to and from our configuration, and which tensor is which parameter."""
