// A partner in Go: tells Brewline that somebody has applied for a loan, once its event is what the contract says.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"log"
	"time"

	dapr "github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// LoanApplicationCreated has the ten fields of contracts/events/LoanApplicationCreated.json.
type LoanApplicationCreated struct {
	EventID         string    `json:"eventId"`
	EventTimestamp  time.Time `json:"eventTimestamp"`
	ApplicationID   string    `json:"applicationId"`
	CustomerID      string    `json:"customerId"`
	RequestedAmount string    `json:"requestedAmount"` // decimal: a float would round it
	ProductType     string    `json:"productType"`
	BranchID        string    `json:"branchId"`
	CustomerName    string    `json:"customerName"`
	CustomerPhone   string    `json:"customerPhone"`
	CustomerEmail   string    `json:"customerEmail"`
}

func main() {
	contract := flag.String("contract", "../../contracts/events/LoanApplicationCreated.json", "its JSON Schema")
	id := flag.String("id", uuid.NewString(), "the event's id: told twice under the same id, it is taken once")
	application := flag.String("application", "LA-2026-0042", "the application's id")
	customer := flag.String("customer", "c-partner", "the customer's id")
	email := flag.String("email", "ada@example.com", "the customer's e-mail address")
	phone := flag.String("phone", "+254711000001", "the customer's phone number")
	flag.Parse()
	event := LoanApplicationCreated{
		EventID: *id, EventTimestamp: time.Now().UTC(), ApplicationID: *application, CustomerID: *customer,
		RequestedAmount: "250000.00", ProductType: "Personal Loan", BranchID: "branch-7",
		CustomerName: "Ada", CustomerPhone: *phone, CustomerEmail: *email,
	}
	if err := publish(*contract, event); err != nil {
		log.Fatalf("not told: %v; tell it again with -id %s", err, event.EventID)
	}
	log.Printf("told %s", event.EventID)
}

func publish(contract string, event LoanApplicationCreated) error {
	data, err := json.Marshal(event)
	if err != nil {
		return err
	}
	if err := validate(contract, data); err != nil {
		return err
	}
	sidecar, err := dapr.NewClient() // finds it by DAPR_GRPC_PORT, and shows it DAPR_API_TOKEN
	if err != nil {
		return err
	}
	defer sidecar.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// Dapr makes the CloudEvent, and would give it a new id each time: ours says when it is the same one.
	return sidecar.PublishEvent(ctx, "pubsub", "loan-origination", data,
		dapr.PublishEventWithContentType("application/json"),
		dapr.PublishEventWithMetadata(map[string]string{
			"cloudevent.id": event.EventID, "cloudevent.type": "LoanApplicationCreated", "cloudevent.source": "partner",
		}))
}

func validate(contract string, data []byte) error {
	schema, err := jsonschema.NewCompiler().Compile(contract)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}
