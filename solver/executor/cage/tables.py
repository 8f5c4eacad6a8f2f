"""Names behind which the libraries that steps may import keep state that a step could change for its siblings.

A step that mentions one is strict. `tests/executor/test_tables.py` walks through the installed libraries and finds
every public table, so that a new version of one cannot add a table that nobody knows.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TABLES = _words(
    """
BIN_PREFIXES CACHE CMATH CMATH_DEFAULT CMATH_TRANSLATIONS CTR1 CTR3 CTR4 CUPY CUPY_DEFAULT CUPY_TRANSLATIONS
EXCLUDED_ATTRIBUTES EXPECTED_KEYS FU JAX JAX_DEFAULT JAX_TRANSLATIONS MATH MATH_DEFAULT MATH_TRANSLATIONS MODULES
MPMATH MPMATH_DEFAULT MPMATH_TRANSLATIONS NUMEXPR NUMEXPR_DEFAULT NUMEXPR_TRANSLATIONS NUMPY NUMPY_DEFAULT
NUMPY_TRANSLATIONS PRECEDENCE PRECEDENCE_FUNCTIONS PRECEDENCE_TRADITIONAL PRECEDENCE_VALUES PREFIXES RL2 SCIPY
SCIPY_DEFAULT SCIPY_TRANSLATIONS SYMPY SYMPY_DEFAULT TENSORFLOW TENSORFLOW_DEFAULT TENSORFLOW_TRANSLATIONS TORCH
TORCH_DEFAULT TORCH_TRANSLATIONS ValidRelationOperator accepted_latex_functions all_diop_classes all_units
atan_taylor_cache atoms_table augassign_classes basic_fns basic_optimizations bctable bernoulli_cache beta_rules
beta_triggers blue_orange_colors bold_unicode borwein_cache cache_prec_steps cos_sin_cache cssclasses
cssclasses_weekday_head cube_faces default_assumptions default_filler defined_facts defined_functions digit_2txt
diop_known dispatch_table dodecahedron_faces eflags evalf_table expr_fns finf fufuncs full_implications
gamma_stirling_cache gamma_taylor_cache gauss42 generated_assumptions global_assumptions global_namespace
greek_bold_letters greek_bold_unicode greek_letters greek_unicode h_mask h_mask_small handlers_dict harmonic_cache
icosahedron_faces illegal_types indented_args int_cache jacobi_spec known_fcns_src1 known_fcns_src2
known_functions log_int_cache log_taylor_cache masked_singleton max_filler mdays min_filler modifier_dict
mult_cache multi_inverses negative_rnd not_in_args not_supported_symbol ns number_symbols octahedron_faces
op_2class ordering_of_classes other_symbols plot_backends prereq primes_cache reciprocal_rnd relational_operators
relators reserved_words sctypeDict shifts_down sieve_cache simpleFunctions small_factorial_cache
small_odd_primes_set small_trailing solver_map spec_relational_ops special_str str2solver submodules symb_2txt
sympify_converter tetrahedron_faces tex_greek_dictionary tfn trailtable typecodes ufunc_domain ufunc_fills
zeta_int_cache
"""
)
"""Lists, dictionaries and sets of modules and classes."""

CHANGERS = _words(
    """
AlgebraicNumber configure EvaluateFalseTransformer factor_cache init_builtins intersection_sets
masked masked_print_option nth_root minkowski_tensor register_backend register_handlerclass set_backend
set_bit_generator set_dimension set_global_backend set_global_dimension set_global_relative_scale_factor set_numeric_ops
set_quantity_dimension set_quantity_scale_factor set_scale_factor set_string_function set_workers seterrobj
setfirstweekday setup skip_backend stdout TensorManager tzset union_sets WildFunction
"""
)
"""Objects that hold state in another way, and functions that change the state of their module."""

MODULES = _words(
    """
pretty_symbology identification libmp libintmath libmpf polyoptions polyconfig codegen ode systems handlers
multipledispatch assumptions_generated
"""
)
"""Modules whose tables have names that every step may use for something else (`order`, `root`, `units`)."""
