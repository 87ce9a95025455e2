"""May this van match now? Position, clock, authority and list, judged twice a second."""
