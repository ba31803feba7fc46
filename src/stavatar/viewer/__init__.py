"""Avatars in the browser: drawn here, looked at there."""

from stavatar.viewer.app import serve

__all__ = ["serve"]
