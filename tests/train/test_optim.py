"""AdamW groups and schedules against what they must be by hand."""

from functools import partial

import pytest
import torch
from torch import nn

from vlpnb.errors import UserError
from vlpnb.train.optim import (
    BertAdam,
    adamw,
    clip_each,
    learning_rate,
    new_optimiser,
    parameter_groups,
    set_rate,
)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.layernorm = nn.LayerNorm(4)  # lower-case name: the original decays it (VOK-16)
        self.transform = nn.Linear(4, 4)
        self.out = nn.Linear(4, 7)
        self.out.weight = self.words.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_biases_and_norms_are_spared_by_type():
    model = Tied()
    decayed, spared = parameter_groups(model, 0.01)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0)
    assert {id(p) for p in decayed["params"]} == {id(model.words.weight), id(model.transform.weight)}
    assert {id(p) for p in spared["params"]} == {
        id(p) for p in (model.layernorm.weight, model.layernorm.bias, model.transform.bias, model.out.bias)
    }


def test_adamw_takes_the_groups():
    assert [g["weight_decay"] for g in adamw(Tied(), 1e-3).param_groups] == [0.01, 0.0]


def test_linear_schedule_rises_and_falls():
    rates = [learning_rate(step, 10, 1.0, warmup=4) for step in range(10)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == 1.0
    assert rates[4:] == pytest.approx([1 - i / 6 for i in range(6)])
    assert learning_rate(10, 10, 1.0, warmup=4) == 0


def test_constant_schedule_stays():
    assert {learning_rate(step, 10, 0.5, schedule="constant") for step in range(11)} == {0.5}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", "AdamW"),
        ("adam", "Adam"),
        ("rms", "RMSprop"),
        ("adamax", "Adamax"),
        ("sgd", "SGD"),
        ("lamb", "Lamb"),
    ],
)
def test_optimisers_of_the_matcher(name, kind):
    """The original's: all spare biases and norms, and all go downhill."""
    model = Tied()
    optimiser = new_optimiser(name, model, 0.01, 0.1)
    assert type(optimiser).__name__ == kind
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1, 0.0]
    losses = []
    for _ in range(5):
        loss = (model.out(model.transform(torch.ones(2, 4))) - 1).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]


def test_sgd_has_momentum():
    assert new_optimiser("sgd", Tied(), 0.1).param_groups[0]["momentum"] == 0.9


def test_adam_is_adamw_without_decay():
    models = []
    for name in ("adam", "adamw"):
        torch.manual_seed(0)
        model = Tied()
        optimiser = new_optimiser(name, model, 0.01, 0.0)
        for _ in range(3):
            model.out(model.transform(torch.ones(2, 4))).square().sum().backward()
            optimiser.step()
        models.append(model.transform.weight)
    torch.testing.assert_close(*models)


def test_lamb_by_hand():
    """Two steps of algorithm 2; a spared bias takes Adam's step, and so do weights that are zero."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0]]))
        model.bias.zero_()
    optimiser = new_optimiser("lamb", model, 0.1, 0.5, eps=0.0)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.5, 0.0]
    weight, mean, square = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), torch.zeros(1, 2)
    for step, gradient in enumerate(([2.0, -1.0], [1.0, 1.0]), start=1):
        gradient = torch.tensor([gradient])
        model.weight.grad, model.bias.grad = gradient.clone(), torch.tensor([5.0])
        optimiser.step()
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        change = mean / (1 - 0.9**step) / (square / (1 - 0.999**step)).sqrt() + 0.5 * weight
        weight = weight - 0.1 * weight.norm() / change.norm() * change
        torch.testing.assert_close(model.weight.detach(), weight)
        torch.testing.assert_close(model.bias.detach(), torch.tensor([-0.1 * step]))
    zero = nn.Linear(2, 1)
    nn.init.zeros_(zero.weight)
    optimiser = new_optimiser("lamb", zero, 0.1, 0.5)
    zero.weight.grad = torch.tensor([[1.0, -3.0]])
    optimiser.step()
    torch.testing.assert_close(zero.weight.detach(), torch.tensor([[-0.1, 0.1]]))


def test_lamb_goes_on_from_its_state():
    ends = []
    for stopped in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimiser = new_optimiser("lamb", model, 0.1)
        for step in range(4):
            if stopped and step == 2:
                state, optimiser = optimiser.state_dict(), new_optimiser("lamb", model, 0.1)
                optimiser.load_state_dict(state)
            optimiser.zero_grad()
            (model(torch.arange(3.0)) * (step + 1)).square().sum().backward()
            optimiser.step()
        ends.append(model.weight.detach())
    assert torch.equal(*ends)


def test_berts_schedule_starts_and_ends_at_rest():
    rate = partial(learning_rate, total=20, peak=2.0, warmup=2.5, schedule="bert")
    assert [rate(step) for step in (0, 1, 2)] == pytest.approx([0, 0.8, 1.6])
    assert [rate(step) for step in (3, 10, 19)] == pytest.approx([2 * 17 / 17.5, 2 * 10 / 17.5, 2 / 17.5])
    assert [rate(step) for step in (20, 30)] == [0, 0]
    assert learning_rate(5, 5, 1.0, warmup=5, schedule="bert") == 0  # nothing but warm-up
    stays = partial(learning_rate, total=20, peak=2.0, warmup=2.5, schedule="bert_constant")
    assert [stays(step) for step in (0, 1, 2, 3, 30)] == pytest.approx([0, 0.8, 1.6, 2, 2])


@pytest.mark.parametrize(("step", "factor"), [(0, 0), (50, 0.5), (100, 1), (550, 0.5), (1000, 0)])
def test_berts_schedule_at_the_places_that_its_users_quote(step, factor):
    assert learning_rate(step, 1000, 3e-5, warmup=100, schedule="bert") == pytest.approx(3e-5 * factor)


class Formula:
    """BertAdam written down: one tensor at a time, its own count of updates."""

    def __init__(self, params, rate, decay, beta1=0.9, beta2=0.999, eps=1e-6):
        self.params, self.rate, self.decay, self.eps = params, rate, decay, eps
        self.beta1, self.beta2 = beta1, beta2
        self.state = {p: [0, torch.zeros_like(p), torch.zeros_like(p)] for p in params}

    @torch.no_grad()
    def step(self):
        for p in self.params:
            if p.grad is None:
                continue
            state = self.state[p]
            done, m, v = state
            m.mul_(self.beta1).add_(p.grad, alpha=1 - self.beta1)
            v.mul_(self.beta2).addcmul_(p.grad, p.grad, value=1 - self.beta2)
            p -= self.rate(done) * (m / (v.sqrt() + self.eps) + self.decay * p)
            state[0] = done + 1


class Late(nn.Module):
    """`late` is used from its eighth call on, `never` is not."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)

        def new(*shape):
            return nn.Parameter(torch.randn(*shape, generator=generator).double())

        self.w, self.late, self.never = new(4, 3), new(3), new(3)
        self.norm = nn.LayerNorm(3).double()
        self.x, self.y = torch.randn(2, 12, 4, generator=generator).double(), new(12, 3).detach()

    def loss(self, step):
        out = self.norm(self.x[step % 2] @ self.w)
        return (out + self.late * (step >= 8) - self.y).square().mean() if step >= 8 else out.square().mean()


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("kernel", ["fused", "plain"])
def test_bert_adam_is_its_formula_over_fifty_updates(interrupted, kernel, monkeypatch):
    """Also for a parameter that joins late, whose warm-up starts then, after a restart, and without the kernel."""
    if kernel == "plain":
        monkeypatch.setattr("vlpnb.train.optim.FUSED_ADAMW", None)
    rate = partial(learning_rate, total=45, peak=0.05, warmup=4.5, schedule="bert")
    ours, plain = Late(), Late()
    optimiser = new_optimiser("bert_adam", ours, 0.05, 0.1, rate=rate)
    formula = Formula(list(plain.parameters()), rate, 0.1)
    for step in range(50):
        if interrupted and step in (5, 20):
            state, optimiser = optimiser.state_dict(), new_optimiser("bert_adam", ours, 0.05, 0.1, rate=rate)
            optimiser.load_state_dict(state)
        for model, algorithm in ((ours, optimiser), (plain, formula)):
            model.zero_grad(set_to_none=True)
            model.loss(step).backward()
            algorithm.step()
        for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
    assert not torch.equal(ours.late, Late().late)
    assert torch.equal(ours.never, Late().never)  # no gradient: no decay either


def test_bert_adam_takes_groups_of_their_own_rates_and_one_that_joins():
    rates = (0.1, 0.01, 0.001)
    ours, plain = ([nn.Parameter(torch.arange(3.0)) for _ in rates] for _ in range(2))
    optimiser = BertAdam([{"params": [p], "lr": lr} for p, lr in zip(ours[:2], rates, strict=False)], 1.0)
    formulas = [Formula([p], lambda done, lr=lr: lr, 0.01) for p, lr in zip(plain, rates, strict=True)]
    for step in range(4):
        if step == 2:
            optimiser.add_param_group({"params": [ours[2]], "lr": rates[2]})
        for p, other in zip(ours, plain, strict=True):
            p.grad = torch.full((3,), 0.5)
            other.grad = p.grad if step >= 2 or p is not ours[2] else None
        optimiser.step()
        for formula in formulas:
            formula.step()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_bert_adam_refuses_the_state_of_another_optimiser():
    model = Late()
    other = torch.optim.AdamW(model.parameters())
    model.loss(0).backward()
    other.step()
    with pytest.raises(ValueError, match="not one of BertAdam"):
        BertAdam(model.parameters(), 0.1).load_state_dict(other.state_dict())


def test_bert_adam_decays_everything_in_one_group():
    model = Tied()
    optimiser = new_optimiser("bert_adam", model, 0.01, 0.1)
    (group,) = optimiser.param_groups
    assert isinstance(optimiser, BertAdam)
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters() if p.requires_grad}
    before = model.layernorm.weight.detach().clone()
    for parameter in group["params"]:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    torch.testing.assert_close(model.layernorm.weight, before * (1 - 0.01 * 0.1))
    assert optimiser.param_groups == [group]  # the numbers of one update do not stay
    assert group["lr"] == 0.01


def test_the_optimiser_of_vlp_clips_every_tensor_and_decays_weights_alone():
    """Its first updates by hand: each tensor's gradient has at most the norm 1, no bias correction, own counts."""
    model = nn.Linear(3, 2).double()
    rate = partial(learning_rate, total=10, peak=0.1, warmup=0, schedule="bert")
    optimiser = new_optimiser("vlp_adam", model, 0.1, 0.01, rate=rate, clip=1.0)
    gradients = {"weight": torch.arange(6.0).view(2, 3).double(), "bias": torch.tensor([0.3, -0.4]).double()}
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    m, v = ({name: torch.zeros_like(p) for name, p in expected.items()} for _ in range(2))
    done = dict.fromkeys(gradients, 0)
    for step in range(4):
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name] * (step + 1) if (name, step) != ("bias", 1) else None
            if parameter.grad is None:
                continue
            g = parameter.grad.clone()
            g *= min(1, 1 / (g.norm().item() + 1e-6))
            m[name], v[name] = 0.9 * m[name] + 0.1 * g, 0.999 * v[name] + 0.001 * g**2
            decay = 0.01 if name == "weight" else 0
            change = m[name] / (v[name].sqrt() + 1e-6) + decay * expected[name]
            expected[name] = expected[name] - rate(done[name]) * change
            done[name] += 1
        optimiser.step()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=0, atol=1e-12)


def test_a_gradient_that_is_short_enough_is_not_clipped():
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    for weight, gradient in zip(weights, ([3.0, 4.0], [0.03, 0.04]), strict=False):
        weight.grad = torch.tensor(gradient)
    clip_each([{"params": weights}], 0.5)
    torch.testing.assert_close(weights[0].grad, torch.tensor([0.3, 0.4]))
    assert torch.equal(weights[1].grad, torch.tensor([0.03, 0.04]))
    assert weights[2].grad is None


def test_the_inverse_square_root_begins_near_0_and_falls_from_the_peak():
    rates = [learning_rate(step, 0, 2.0, warmup=4, schedule="inverse_sqrt") for step in (0, 2, 4, 16, 64)]
    assert rates == pytest.approx([1e-7, 1.0, 2.0, 1.0, 0.5], rel=1e-6)
    assert learning_rate(0, 10, 2.0, schedule="inverse_sqrt") == 2.0  # without a warm-up


@pytest.mark.parametrize("interrupted", [False, True])
def test_fairseqs_adam_is_its_formula_and_goes_on_from_its_state(interrupted):
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    lr, (beta1, beta2), eps, decay = 0.01, (0.9, 0.98), 1e-2, 0.1
    optimiser = new_optimiser("fairseq_adam", model, lr, decay, (beta1, beta2), eps)
    by_hand = {name: p.detach().clone() for name, p in model.named_parameters()}
    means = {name: torch.zeros_like(p) for name, p in by_hand.items()}
    squares = {name: torch.zeros_like(p) for name, p in by_hand.items()}
    for step in range(1, 6):
        if interrupted:
            state = optimiser.state_dict()
            optimiser = new_optimiser("fairseq_adam", model, lr, decay, (beta1, beta2), eps)
            optimiser.load_state_dict(state)
        for name, p in model.named_parameters():
            p.grad = torch.randn_like(p) * 0.01  # as small as ε, where the place of ε is felt
            means[name] = beta1 * means[name] + (1 - beta1) * p.grad
            squares[name] = beta2 * squares[name] + (1 - beta2) * p.grad**2
            size = lr * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
            by_hand[name] = by_hand[name] * (1 - lr * decay) - size * means[name] / (
                squares[name].sqrt() + eps
            )
        optimiser.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), by_hand[name], rtol=0, atol=1e-12)


def test_fairseqs_adam_decays_everything_that_is_trained():
    (group,) = new_optimiser("fairseq_adam", Tied(), 1e-3).param_groups
    assert (len(group["params"]), group["weight_decay"]) == (6, 0.01)


def test_transformers_adamw_decays_after_the_step_and_adds_epsilon_before_the_correction():
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    lr, (beta1, beta2), eps, decay = 0.01, (0.9, 0.98), 1e-2, 0.1
    optimiser = new_optimiser("transformers_adamw", model, lr, decay, (beta1, beta2), eps)
    by_hand = {name: p.detach().clone() for name, p in model.named_parameters()}
    means = {name: torch.zeros_like(p) for name, p in by_hand.items()}
    squares = {name: torch.zeros_like(p) for name, p in by_hand.items()}
    for step in range(1, 6):
        for name, p in model.named_parameters():
            p.grad = torch.randn_like(p) * 0.01
            means[name] = beta1 * means[name] + (1 - beta1) * p.grad
            squares[name] = beta2 * squares[name] + (1 - beta2) * p.grad**2
            size = lr * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
            stepped = by_hand[name] - size * means[name] / (squares[name].sqrt() + eps)
            by_hand[name] = stepped * (1 - lr * decay) if name == "weight" else stepped
        optimiser.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), by_hand[name], rtol=0, atol=1e-12)


def test_parameters_of_a_factor_have_groups_of_their_own_and_that_rate():
    model = Tied()
    optimiser = new_optimiser("adamw", model, 1e-3, factors={"transform.weight": 2.0, "transform.bias": 2.0})
    set_rate(optimiser, 0.5)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert rates[id(model.transform.weight)] == rates[id(model.transform.bias)] == 1.0
    assert {rates[id(p)] for p in (model.words.weight, model.layernorm.bias)} == {0.5}
    decays = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert (decays[id(model.transform.weight)], decays[id(model.transform.bias)]) == (0.01, 0.0)


def test_names_that_are_spared_take_the_place_of_biases_and_norms():
    model = Tied()
    decayed, spared = parameter_groups(model, 0.1, spared={"words.weight", "out.bias"})
    assert {id(p) for p in spared["params"]} == {id(model.words.weight), id(model.out.bias)}
    assert len(decayed["params"]) == 4


def test_names_that_no_parameter_has_and_optimisers_without_factors_are_refused():
    with pytest.raises(UserError, match=r"no parameter 'worlds\.weight'"):
        parameter_groups(Tied(), 0.1, {"worlds.weight": 2.0})
    with pytest.raises(UserError, match="'bert_adam' has one rate for all"):
        new_optimiser("bert_adam", Tied(), 0.1, factors={"words.weight": 2.0})
