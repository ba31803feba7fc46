"""Runs made of files alone, for pages and tables."""

from report_fixtures import results, whole_run, write_run

__all__ = ["results", "whole_run", "write_run"]
