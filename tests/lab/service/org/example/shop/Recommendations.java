package org.example.shop;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;

/** The "others also bought" panel. It listens for price changes while a page is shown. */
final class Recommendations {
    private interface PriceListener {
        void priceChanged(int product, long cents);
    }

    private static final class PriceFeed {
        private final List<PriceListener> listeners = new ArrayList<>();

        synchronized void register(PriceListener listener) {
            listeners.add(listener);
        }

        synchronized void deregister(PriceListener listener) {
            listeners.remove(listener);
        }
    }

    private final PriceFeed feed = new PriceFeed();
    private final boolean livePanel;

    Recommendations(Release release) {
        this.livePanel = release.atLeast(2, 5);
    }

    /** Render the panel; from 2.5 on the panel stays live and nobody ever takes its listener away. */
    int render(int product) {
        byte[] panel = new byte[ThreadLocalRandom.current().nextInt(8_192, 16_384)];
        PriceListener listener = (changed, cents) -> panel[changed % panel.length] = (byte) cents;
        feed.register(listener);
        if (!livePanel) {
            feed.deregister(listener);
        }
        return panel.length;
    }
}
