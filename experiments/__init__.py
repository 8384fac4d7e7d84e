"""Launchers: flags, then one call into unetjax."""
