"""How long anything biometric may live, and the proof that it is gone."""
