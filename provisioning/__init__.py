"""What engineers and intelligence units run, never on a van: keys, lists, brokers, the demo."""
