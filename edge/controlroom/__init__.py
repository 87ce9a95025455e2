"""What reads the alerts: receive, verify, decrypt, show."""
