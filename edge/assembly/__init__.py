"""A van put together from its configuration: what it is made of, in the order in which it is made."""
