"""Stages that look at or change the text of one document: language, normal forms, tidying."""
