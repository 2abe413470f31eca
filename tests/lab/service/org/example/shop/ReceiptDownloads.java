package org.example.shop;

import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.Queue;

/** Receipts are streamed from direct buffers, one for each download in progress. */
final class ReceiptDownloads {
    private static final int BUFFER_BYTES = 256 * 1024;
    private static final long DOWNLOAD_MILLIS = 5_000; // How long a slow client holds its buffer.

    private record Download(ByteBuffer buffer, long endsAtMillis) {}

    private final Queue<Download> running = new ArrayDeque<>();

    ReceiptDownloads() {
        CheckoutApplication.daemon(this::finishForEver, "receipt-streamer").start();
    }

    int start() {
        ByteBuffer buffer = ByteBuffer.allocateDirect(BUFFER_BYTES);
        synchronized (running) {
            running.add(new Download(buffer, System.currentTimeMillis() + DOWNLOAD_MILLIS));
            return running.size();
        }
    }

    private void finishForEver() {
        while (true) {
            try {
                Thread.sleep(250);
            } catch (InterruptedException stop) {
                return;
            }
            synchronized (running) {
                while (!running.isEmpty() && running.peek().endsAtMillis() < System.currentTimeMillis()) {
                    running.remove();
                }
            }
        }
    }
}
