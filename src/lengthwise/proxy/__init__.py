"""The life of a proxy model: answers in; a trained model, its figures and its card out."""
