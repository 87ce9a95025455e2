"""Signed images: build, sign, verify and flash what a van boots, and what the van itself does with an update.

In the order in which an image comes about: ``board`` (what the machine is), ``lock`` (what goes in), ``debian`` and
``wheels`` (fetch and install it), ``kernel`` (modules and the small first root), ``disk`` (file systems, verity, the
A/B disk), ``sbom`` and ``release`` (what is in it, in writing), ``build`` (the order of all these), ``keys``,
``sign``, ``verify``, ``devices`` and ``flash``, ``enrol``. ``rootfs`` is copied into the
image; what runs there as root is :mod:`edge.vanroot`.
"""
