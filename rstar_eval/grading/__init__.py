"""Answer extraction and equivalence."""

from rstar_eval.grading.extract import extract_answer
from rstar_eval.grading.graders import GRADERS, Grader, grade, grade_many
from rstar_eval.grading.group import group_answers
from rstar_eval.grading.limits import Limits, Tolerance
from rstar_eval.grading.pool import GraderPool
from rstar_eval.grading.types import Answer, Grade

__all__ = [
    "GRADERS",
    "Answer",
    "Grade",
    "Grader",
    "GraderPool",
    "Limits",
    "Tolerance",
    "extract_answer",
    "grade",
    "grade_many",
    "group_answers",
]
