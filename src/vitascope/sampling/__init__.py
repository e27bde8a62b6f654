"""Solvers and the denoising loop: functions and generators on tensors that know no model."""
