import torch

from miram.networks.exam_classifier import ExamClassifier, GatedAttentionPooling


def test_padding_does_not_count():
    pooling = GatedAttentionPooling(6, 4)
    elements = torch.randn(1, 3, 6)
    padded = torch.cat([elements, torch.full((1, 2, 6), 100.0)], dim=1)
    alone, _ = pooling(elements, torch.ones(1, 3, dtype=torch.bool))
    pooled, attention = pooling(padded, torch.tensor([[True, True, True, False, False]]))
    torch.testing.assert_close(pooled, alone)
    torch.testing.assert_close(attention.sum(), torch.tensor(1.0))
    assert (attention[0, 3:] == 0).all()


def test_a_breast_does_not_depend_on_the_others_nor_on_the_order_of_its_views():
    network = ExamClassifier(5, hidden_size=8, attention_size=4).eval()
    one, two, other = torch.randn(3, 5), torch.randn(7, 5), torch.randn(2, 5)
    together = network([[one, two], [other]])
    swapped = network([[two, one]])
    torch.testing.assert_close(together.breasts[:1], swapped.breasts)
    torch.testing.assert_close(together.views[:2], swapped.views.flip(0))
    assert [len(attention) for attention in together.attention] == [3, 7, 2]
    torch.testing.assert_close(torch.stack([part.sum() for part in together.attention]), torch.ones(3))


def test_a_breast_with_one_view_is_that_view():
    network = ExamClassifier(5, hidden_size=8, attention_size=4).eval()
    output = network([[torch.randn(4, 5)]])
    torch.testing.assert_close(output.breasts, output.views)
