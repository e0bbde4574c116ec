"""Chaos: people lease at random while every part of the platform is killed, cut off, filled up or lied to."""
