// A sensor without Python in a run of edgebench: a window of readings as plain JSON, over TLS 1.3, and the decision back.
//
// `edgebench_device.h` comes from `edgebench lab invite --device-only NAME`. Whoever has that file speaks for the device.

#include <stdio.h>
#include <stdlib.h>

#include "edgebench_device.h"
#include "esp_event.h"
#include "esp_log.h"
#include "esp_netif.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "mqtt_client.h"
#include "nvs_flash.h"
#include "protocol_examples_common.h"

// The workload of the topology, and the input of its task: of `occupancy`, ten readings, a minute apart, of temperature (°C),
// humidity (%), light (lx), carbon dioxide (ppm) and the humidity ratio.
#define WORKLOAD "anybody"
#define STEPS 10
#define QUANTITIES 5
#define EVERY_MS 60000

static const char *TAG = "edgebench";
static volatile bool connected = false;

static float read_sensor(int quantity) {
    static const float readings[QUANTITIES] = {21.5f, 27.0f, 430.0f, 760.0f, 0.0043f};  // your sensors'
    return readings[quantity];
}

static void on_event(void *context, esp_event_base_t base, int32_t id, void *data) {
    esp_mqtt_event_handle_t event = data;
    if (id == MQTT_EVENT_CONNECTED) {
        connected = true;
        esp_mqtt_client_subscribe(event->client, EDGEBENCH_TOPIC(WORKLOAD, "decision"), 1);
    } else if (id == MQTT_EVENT_DISCONNECTED) {
        connected = false;  // no run is on: the client goes on trying
    } else if (id == MQTT_EVENT_DATA) {
        ESP_LOGI(TAG, "%.*s", event->data_len, event->data);
    }
}

static esp_mqtt_client_handle_t connect_to_the_site(void) {
    const esp_mqtt_client_config_t configuration = {
        .broker.address.uri = EDGEBENCH_BROKER,
        .broker.verification.certificate = EDGEBENCH_AUTHORITY,
        .broker.verification.common_name = EDGEBENCH_BROKER_NAME,
        .credentials.username = EDGEBENCH_NAME,
        .credentials.client_id = EDGEBENCH_NAME,
        .credentials.authentication.password = EDGEBENCH_PASSWORD,
        .credentials.authentication.certificate = EDGEBENCH_CERTIFICATE,
        .credentials.authentication.key = EDGEBENCH_KEY,
        .buffer.out_size = 4096,
        .network.reconnect_timeout_ms = 2000,
    };
    esp_mqtt_client_handle_t client = esp_mqtt_client_init(&configuration);
    ESP_ERROR_CHECK(esp_mqtt_client_register_event(client, ESP_EVENT_ANY_ID, on_event, NULL));
    ESP_ERROR_CHECK(esp_mqtt_client_start(client));
    return client;
}

void app_main(void) {
    ESP_ERROR_CHECK(nvs_flash_init());
    ESP_ERROR_CHECK(esp_netif_init());
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    ESP_ERROR_CHECK(example_connect());  // Wi-Fi or Ethernet, by `idf.py menuconfig`
    esp_mqtt_client_handle_t client = connect_to_the_site();

    static float window[STEPS][QUANTITIES];
    static char sample[STEPS * QUANTITIES * 14 + 64];
    TickType_t due = xTaskGetTickCount();
    for (unsigned number = 0;; number++) {
        for (int quantity = 0; quantity < QUANTITIES; quantity++) {
            window[number % STEPS][quantity] = read_sensor(quantity);
        }
        if (connected && number + 1 >= STEPS) {
            int used = snprintf(sample, sizeof sample, "{\"id\": %u, \"values\": [", number);
            for (int step = 0; step < STEPS; step++) {
                const float *row = window[(number + 1 + step) % STEPS];  // the oldest first
                for (int quantity = 0; quantity < QUANTITIES; quantity++) {
                    const char *comma = step + quantity == 0 ? "" : ",";
                    used += snprintf(sample + used, sizeof sample - used, "%s%.5g", comma, row[quantity]);
                }
            }
            used += snprintf(sample + used, sizeof sample - used, "]}");
            esp_mqtt_client_publish(client, EDGEBENCH_TOPIC(WORKLOAD, "sample"), sample, used, 1, 0);
        }
        vTaskDelayUntil(&due, pdMS_TO_TICKS(EVERY_MS));
    }
}
