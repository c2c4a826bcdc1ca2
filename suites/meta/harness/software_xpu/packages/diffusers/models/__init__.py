"""Stands for diffusers.models."""
