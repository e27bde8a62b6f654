"""The model card: what one loaded model can do, as plain data, and the one place where wishes meet its rules.

A worker announces a card for each model; validation, admission, listings, forms and help all read it, so
that the control side knows every rule without importing a family.
"""

from vitascope.card.advice import request_warnings as request_warnings
from vitascope.card.model_card import Defaults as Defaults
from vitascope.card.model_card import ModelCard as ModelCard
from vitascope.card.model_card import PromptGuide as PromptGuide
from vitascope.card.model_card import Rules as Rules
from vitascope.card.resolving import MAX_FPS as MAX_FPS
from vitascope.card.resolving import MAX_OUTPUTS as MAX_OUTPUTS
from vitascope.card.resolving import MIN_FPS as MIN_FPS
from vitascope.card.resolving import makes_size as makes_size
from vitascope.card.resolving import native_guidance as native_guidance
from vitascope.card.resolving import resolve as resolve
from vitascope.card.wish import WISH_FIELDS as WISH_FIELDS
from vitascope.card.wish import Wish as Wish
