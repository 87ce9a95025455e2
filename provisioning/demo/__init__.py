"""The demo's street scene: people from public-domain portraits walk past a camera that nobody had to set up."""
