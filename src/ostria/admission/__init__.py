"""The webhook that an API server asks before it takes an object: pods get their proxies, the mesh's objects are judged.

    AdmissionReview -> review (pure: injection, resources) -> AdmissionReview
                         ^ server: HTTPS, bounds, the certificate

Both answers are functions of what is asked and of settings, and neither has effects, so a dry run is answered as any
other. Nothing here knows routes or proxies' streams. `server` holds all of this room's IO.
"""

from ostria.admission.review import LIMITS, Limits, Refused, mutate, settings_at, validate

__all__ = ["LIMITS", "Limits", "Refused", "mutate", "settings_at", "validate"]
