"""Signed releases of bundles: a TUF repository in a folder, its keys, and what it releases. The only room that signs."""
