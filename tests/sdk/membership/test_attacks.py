"""Attacks learn what their loss says, and scores of folds that look at different features are of one size."""

import numpy as np
import pytest

from rankport.sdk.membership.attacks import classifier, cross_fitted, threshold
from rankport.sdk.membership.roc import Ranking


def test_the_classifier_is_where_the_penalized_loss_is_least() -> None:
    random = np.random.default_rng(0)
    features, members = random.normal(size=(60, 3)), np.arange(60) % 2 == 0
    scores = classifier(features, members)(features)
    low, high = features.min(axis=0), features.max(axis=0)
    scaled = (features - low) / (high - low)
    columns = np.concatenate([scaled, scaled**2], axis=1)
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    shifts = np.concatenate([np.ones((60, 1)), columns], axis=1)
    weights = np.linalg.lstsq(shifts, scores, rcond=None)[0]
    np.testing.assert_allclose(shifts @ weights, scores, atol=1e-9)  # a plane over those columns
    slope = shifts.T @ (1 / (1 + np.exp(-scores)) - members)
    np.testing.assert_allclose(slope[1:] + weights[1:], 0, atol=1e-6)
    assert slope[0] == pytest.approx(0, abs=1e-6)


def test_a_threshold_is_measured_by_the_deviation_where_most_values_are_equal() -> None:
    members = np.arange(100) < 50
    rare = np.where(np.arange(100) < 20, 1.0, 0.0)[:, None]
    scores = threshold(rare, members)(rare)
    np.testing.assert_allclose(scores, rare[:, 0] / 0.4)  # of 20 ones in 100
    assert threshold(np.ones((100, 1)), members)(np.full((1, 1), 3.0)) == pytest.approx(2.0)
    wide = np.arange(100.0)[:, None]
    assert threshold(wide, members)(np.zeros((1, 1))) == pytest.approx(49.5 / 49.5)  # members are below


def test_no_feature_drowns_the_folds_that_chose_another() -> None:
    random = np.random.default_rng(2)
    members = np.arange(300) < 150
    rare = np.where((random.random(300) < 0.24) & members, 1.0, 0.0)
    wide = random.normal(size=300) + 0.43 * members
    features = np.stack([rare, wide], axis=1)
    scores = cross_fitted(threshold, features, members, 5, 5, random)
    assert np.abs(scores).max() < 10
    alone = [Ranking(column, members).curve().auc for column in features.T]
    assert Ranking(scores, members).curve().auc > min(alone) - 0.05
