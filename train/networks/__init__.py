"""Networks: build and train them in Keras, resume an interrupted training, and export to TFLite."""
