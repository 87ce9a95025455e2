"""From a decision to the control room: message, outbox, publish."""
