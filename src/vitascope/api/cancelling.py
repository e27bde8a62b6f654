"""Cancels, as all dialects ask for them. A job that ends with one leaves no file behind."""

from __future__ import annotations

import time

from vitascope.api.services import Services
from vitascope.jobs.job import Job, State


def cancel_job(services: Services, job_id: str) -> Job:
    """Cancel a job that waits, have a running one stopped at its next step, leave a finished one; blocking.

    Raises:
        NotFound: there is no such job.

    """
    job = services.store.request_cancel(job_id, time.time())
    if job.state is State.CANCELLED:  # it waited; whatever it had done before is of no more use
        for key in (job.claim.resume_key, *(file.key for file in job.files)):
            if key is not None:
                services.artifacts.delete(key)
    return job
