"""Engines that are started or plugged into from here."""
