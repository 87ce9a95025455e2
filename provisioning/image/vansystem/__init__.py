"""What runs on the van as root around the service: volumes, floors, health gate, updates, enrolment."""
