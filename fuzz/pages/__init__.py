"""Findings as pages for people: HTML with its pictures, styles and script inside, no file or network needed."""
