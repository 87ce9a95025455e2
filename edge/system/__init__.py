"""The van's operating system: journal, service manager, health."""
