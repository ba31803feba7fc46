"""Avatars in the formats of other programs: splat files, animated meshes, motion tables, and a page for the web."""

from stavatar.export.commands import export_glb, export_motion, export_ply, export_spz, export_web

__all__ = ["export_glb", "export_motion", "export_ply", "export_spz", "export_web"]
