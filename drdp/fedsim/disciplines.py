"""Which discipline each subject of MMLU and of C-Eval belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CEVAL", "CEVAL_HARD", "DISCIPLINES", "MMLU"]

DISCIPLINES = ("STEM", "social sciences", "humanities", "other")
"""In the order of the DR-Encoder paper's Table 4."""


def _by_subject(*groups: str) -> Mapping[str, str]:
    return MappingProxyType(
        {
            subject: discipline
            for discipline, group in zip(DISCIPLINES, groups, strict=True)
            for subject in group.split()
        }
    )


# Hendrycks et al., arXiv:2009.03300, with anatomy in STEM, as the evaluation
# harnesses in use have it: weighted by the 3,153, 3,077, 4,705 and 3,107 test
# questions of this grouping, the disciplines of the paper's Qwen-Base row (46.62,
# 65.52, 51.20, 63.69) give its average of 56.07; with anatomy in other, 56.24.
MMLU = _by_subject(
    "abstract_algebra anatomy astronomy college_biology college_chemistry"
    " college_computer_science college_mathematics college_physics computer_security"
    " conceptual_physics electrical_engineering elementary_mathematics"
    " high_school_biology high_school_chemistry high_school_computer_science"
    " high_school_mathematics high_school_physics high_school_statistics"
    " machine_learning",
    "econometrics high_school_geography high_school_government_and_politics"
    " high_school_macroeconomics high_school_microeconomics high_school_psychology"
    " human_sexuality professional_psychology public_relations security_studies"
    " sociology us_foreign_policy",
    "formal_logic high_school_european_history high_school_us_history"
    " high_school_world_history international_law jurisprudence logical_fallacies"
    " moral_disputes moral_scenarios philosophy prehistory professional_law"
    " world_religions",
    "business_ethics clinical_knowledge college_medicine global_facts human_aging"
    " management marketing medical_genetics miscellaneous nutrition"
    " professional_accounting professional_medicine virology",
)
"""Discipline of each of the 57 subjects of MMLU."""

# Huang et al., arXiv:2305.08322, table 1 and section 2.4.
CEVAL = _by_subject(
    "advanced_mathematics college_chemistry college_physics college_programming"
    " computer_architecture computer_network discrete_mathematics electrical_engineer"
    " high_school_biology high_school_chemistry high_school_mathematics"
    " high_school_physics metrology_engineer middle_school_biology"
    " middle_school_chemistry middle_school_mathematics middle_school_physics"
    " operating_system probability_and_statistics veterinary_medicine",
    "business_administration college_economics education_science"
    " high_school_geography high_school_politics mao_zedong_thought marxism"
    " middle_school_geography middle_school_politics teacher_qualification",
    "art_studies chinese_language_and_literature high_school_chinese"
    " high_school_history ideological_and_moral_cultivation law legal_professional"
    " logic middle_school_history modern_chinese_history professional_tour_guide",
    "accountant basic_medicine civil_servant clinical_medicine"
    " environmental_impact_assessment_engineer fire_engineer physician"
    " plant_protection sports_science tax_accountant urban_and_rural_planner",
)
"""Discipline of each of the 52 subjects of C-Eval."""

CEVAL_HARD = frozenset(
    {
        "advanced_mathematics",
        "college_chemistry",
        "college_physics",
        "discrete_mathematics",
        "high_school_chemistry",
        "high_school_mathematics",
        "high_school_physics",
        "probability_and_statistics",
    }
)
"""The subjects of C-Eval Hard."""
