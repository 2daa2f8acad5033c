"""The functions that may be kept as values: data, grouped by the module that offers them.

Only functions that compute an answer from their arguments stand here; nothing that reads, writes,
imports, evaluates text, changes its arguments or makes arrays of a size that it is told.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FUNCTIONS", "UFUNCS"]

UFUNCS: Final = """
absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_and bitwise_count
bitwise_or bitwise_xor cbrt ceil conjugate copysign cos cosh deg2rad degrees divide divmod equal exp
exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod frexp gcd greater greater_equal
heaviside hypot invert isfinite isinf isnan isnat lcm ldexp left_shift less less_equal log log10
log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor matmul matvec maximum
minimum modf multiply negative nextafter not_equal positive power rad2deg radians reciprocal
remainder right_shift rint sign signbit sin sinh spacing sqrt square subtract tan tanh trunc vecdot
vecmat
"""
_NUMPY: Final = """
all allclose angle any argmax argmin argpartition argsort array_equal asarray ascontiguousarray
asfortranarray atleast_1d atleast_2d atleast_3d average bincount clip column_stack concatenate
convolve corrcoef correlate count_nonzero cov cross cumprod cumsum diag diagonal diff digitize dot
dstack ediff1d expand_dims fix flatnonzero flip fliplr flipud gradient histogram hstack i0 imag
inner interp intersect1d isclose iscomplex isin isneginf isposinf isreal lexsort max mean median min
moveaxis nan_to_num nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin
nanpercentile nanprod nanquantile nanstd nansum nanvar ndim nonzero outer percentile polyfit polyval
prod ptp quantile ravel real repeat reshape rollaxis rot90 round searchsorted setdiff1d setxor1d
shape sinc size sort squeeze stack std sum swapaxes take tensordot tile trace transpose tril triu
union1d unique unwrap var vdot vstack where
"""
_LINALG: Final = """
cholesky cond det eigh eigvalsh inv lstsq matrix_rank norm pinv qr slogdet solve svd
"""
_BUILTINS: Final = "abs all any chr divmod len max min ord round sorted sum"
_MATH: Final = """
acos acosh asin asinh atan atan2 atanh ceil copysign cos cosh degrees dist erf erfc exp expm1 fabs
floor fmod fsum gamma hypot isclose isfinite isinf isnan lgamma log log10 log1p log2 radians sin
sinh sqrt tan tanh trunc
"""
_TEXT: Final = """
str.capitalize str.casefold str.lower str.lstrip str.rstrip str.split str.splitlines str.strip
str.swapcase str.title str.upper
"""
_SPECIAL: Final = """
bdtr beta betainc betaincinv betaln binom boxcox boxcox1p cbrt chdtr chdtrc chdtri comb
ellipe ellipk entr erf erfc erfcinv erfcx erfi erfinv exp1 exp10 exp2 expi expit expm1 exprel
factorial fdtr fdtrc fdtri gamma gammainc gammaincc gammainccinv gammaincinv gammaln huber hyp2f1 i0
i0e i1 i1e inv_boxcox inv_boxcox1p iv ive j0 j1 jv k0 k0e k1 k1e kl_div kv kve log1p log_expit
log_ndtr log_softmax loggamma logit logsumexp nbdtr ndtr ndtri pdtr perm poch polygamma
pseudo_huber psi rel_entr rgamma softmax softplus stdtr stdtrit xlog1py xlogy y0 y1 zeta
"""
_DISTANCE: Final = """
braycurtis canberra chebyshev cityblock correlation cosine dice euclidean hamming jaccard
jensenshannon mahalanobis minkowski rogerstanimoto russellrao seuclidean sokalmichener sokalsneath
sqeuclidean yule
"""
_STATS: Final = """
boxcox entropy gmean gstd hmean iqr kendalltau kurtosis linregress median_abs_deviation mode
pearsonr rankdata sem skew spearmanr tmean trim_mean variation yeojohnson zscore
"""
# Not those that hand a metric's parameters to compiled code, which trusts their shapes.
_PAIRWISE: Final = """
additive_chi2_kernel chi2_kernel cosine_distances cosine_similarity euclidean_distances
haversine_distances laplacian_kernel linear_kernel manhattan_distances nan_euclidean_distances
paired_cosine_distances paired_euclidean_distances paired_manhattan_distances pairwise_kernels
polynomial_kernel rbf_kernel sigmoid_kernel
"""
_METRICS: Final = """
accuracy_score adjusted_mutual_info_score adjusted_rand_score auc average_precision_score
balanced_accuracy_score brier_score_loss calinski_harabasz_score class_likelihood_ratios
classification_report cohen_kappa_score completeness_score confusion_matrix
confusion_matrix_at_thresholds consensus_score coverage_error d2_absolute_error_score d2_brier_score
d2_log_loss_score d2_pinball_score d2_tweedie_score davies_bouldin_score dcg_score det_curve
explained_variance_score f1_score fbeta_score fowlkes_mallows_score hamming_loss hinge_loss
homogeneity_completeness_v_measure homogeneity_score jaccard_score
label_ranking_average_precision_score label_ranking_loss log_loss matthews_corrcoef max_error
mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss
mean_poisson_deviance mean_squared_error mean_squared_log_error mean_tweedie_deviance
median_absolute_error metric_at_thresholds multilabel_confusion_matrix mutual_info_score
ndcg_score normalized_mutual_info_score pair_confusion_matrix precision_recall_curve
precision_recall_fscore_support precision_score r2_score rand_score recall_score roc_auc_score
roc_curve root_mean_squared_error root_mean_squared_log_error silhouette_samples silhouette_score
top_k_accuracy_score v_measure_score zero_one_loss
"""
_SELECTION: Final = """
chi2 f_classif f_oneway f_regression mutual_info_classif mutual_info_regression r_regression
"""
# scikit-learn's own helpers that fitted estimators hold; the name in files says what they are.
_INNER: Final = {
    "sklearn.check_array": ("sklearn.utils.validation", "check_array"),
    "sklearn.passthrough_scorer": ("sklearn.metrics._scorer", "_passthrough_scorer"),
}
_GROUPS: Final = {
    "numpy": f"{UFUNCS} {_NUMPY}",
    "numpy.linalg": _LINALG,
    "builtins": f"{_BUILTINS} {_TEXT}",
    "math": _MATH,
    "scipy.special": _SPECIAL,
    "scipy.spatial.distance": _DISTANCE,
    "scipy.stats": _STATS,
    "sklearn.metrics.pairwise": _PAIRWISE,
    "sklearn.metrics": _METRICS,
    "sklearn.feature_selection": _SELECTION,
}

# Name in files to (module, attribute): the only place that says what a name means.
FUNCTIONS: Final[dict[str, tuple[str, str]]] = {
    f"{module}.{name}": (module, name)
    for module, names in _GROUPS.items()
    for name in names.split()
} | _INNER
